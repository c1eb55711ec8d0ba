// Orders of a shop: an order, its goods and the task that confirms it are committed together, or not at all.

import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import pg from "pg";

const CONSTRAINT_VIOLATION = /^23/;

const pool = new pg.Pool(); // to PGHOST, as PGUSER and so on

async function transaction(work) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

async function placeOrder(client, { product, quantity, email }) {
  const { rows: [order] } = await client.query(
    "INSERT INTO orders (product, quantity, email) VALUES ($1, $2, $3) RETURNING id",
    [product, quantity, email],
  );
  const { rows: [task] } = await client.query("SELECT aftercommit.submit_task($1, $2) AS id", [
    "order.confirm",
    { order: Number(order.id), email },
  ]);
  await client.query("UPDATE products SET stock = stock - $2 WHERE name = $1", [product, quantity]);
  return { task: task.id };
}

async function answer(request) {
  if (request.method !== "POST" || request.url !== "/orders") return [404, { detail: "POST /orders" }];
  const order = await json(request);
  try {
    return [201, await transaction((client) => placeOrder(client, order))];
  } catch (error) {
    if (!CONSTRAINT_VIOLATION.test(error.code)) throw error;
    return [409, { detail: "there is not enough of it" }];
  }
}

createServer(async (request, response) => {
  const [status, body] = await answer(request).catch((error) => {
    console.error(error);
    return [500, { detail: "something went wrong" }];
  });
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}).listen(process.env.PORT ?? 8080, "127.0.0.1");
