"""Orders of a shop: an order, its goods and the task that confirms it are committed together, or not at all."""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aftercommit import sql

app = FastAPI()
engine = create_async_engine("postgresql+asyncpg://")  # PGHOST, PGUSER and so on say where it is


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    name: Mapped[str] = mapped_column(primary_key=True)
    stock: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str]
    quantity: Mapped[int]
    email: Mapped[str]


class NewOrder(BaseModel):
    product: str
    quantity: int
    email: str


@app.post("/orders", status_code=201)
async def place_order(new: NewOrder) -> dict[str, str]:
    try:
        async with AsyncSession(engine) as session, session.begin():  # commits at the end of the block
            order = Order(**new.model_dump())
            session.add(order)
            await session.flush()  # gives the order its id
            task_id = await sql.submit(session, "order.confirm", {"order": order.id, "email": order.email})
            await session.execute(
                update(Product).where(Product.name == new.product).values(stock=Product.stock - new.quantity)
            )
    except IntegrityError as error:
        raise HTTPException(409, "there is not enough of it") from error
    return {"task": str(task_id)}
