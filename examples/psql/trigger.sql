-- Whoever inserts an order submits the task that confirms it, and need not know of it.
CREATE FUNCTION confirm_order() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM aftercommit.submit_task('order.confirm', jsonb_build_object('order', NEW.id, 'email', NEW.email));
    RETURN NEW;
END
$$;

CREATE TRIGGER confirm_order AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION confirm_order();
