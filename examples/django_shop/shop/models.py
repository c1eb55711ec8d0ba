from django.db import models


class Product(models.Model):
    name = models.TextField(primary_key=True)
    stock = models.PositiveIntegerField()

    class Meta:
        db_table = "products"
        managed = False  # tables.sql made it


class Order(models.Model):
    product = models.ForeignKey(Product, models.PROTECT, db_column="product")
    quantity = models.PositiveIntegerField()
    email = models.EmailField()

    class Meta:
        db_table = "orders"
        managed = False
