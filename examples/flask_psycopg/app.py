"""Orders of a shop: an order, its goods and the task that confirms it are committed together, or not at all."""

import psycopg
from flask import Flask, request

from aftercommit import sql

app = Flask(__name__)


@app.post("/orders")
def place_order():
    new = request.get_json()
    with psycopg.connect() as connection:  # to PGHOST, as PGUSER and so on; commits at the end of the block
        (order,) = connection.execute(
            "INSERT INTO orders (product, quantity, email) VALUES (%(product)s, %(quantity)s, %(email)s) RETURNING id",
            new,
        ).fetchone()
        task_id = sql.submit(connection, "order.confirm", {"order": order, "email": new["email"]})
        connection.execute("UPDATE products SET stock = stock - %(quantity)s WHERE name = %(product)s", new)
    return {"task": str(task_id)}, 201


@app.errorhandler(psycopg.IntegrityError)
def not_enough(_error):
    return {"detail": "there is not enough of it"}, 409
