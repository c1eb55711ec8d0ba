-- psql -v product=book -v quantity=1 -v email=ada@example.com -f order.sql
\set ON_ERROR_STOP on

BEGIN;
INSERT INTO orders (product, quantity, email) VALUES (:'product', :quantity, :'email') RETURNING id \gset
SELECT aftercommit.submit_task('order.confirm', jsonb_build_object('order', :id, 'email', :'email'));
UPDATE products SET stock = stock - :quantity WHERE name = :'product';
COMMIT;
