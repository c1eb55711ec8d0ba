-- What the applications beside this file work with.
CREATE TABLE products (
    name text PRIMARY KEY,
    stock integer NOT NULL CHECK (stock >= 0)
);

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product text NOT NULL REFERENCES products,
    quantity integer NOT NULL CHECK (quantity > 0),
    email text NOT NULL
);

INSERT INTO products VALUES ('book', 5);
