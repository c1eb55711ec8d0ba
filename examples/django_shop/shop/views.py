"""Orders of a shop: an order, its goods and the task that confirms it are committed together, or not at all."""

import json

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.http import JsonResponse
from django.views.decorators.http import require_POST

from aftercommit import sql
from shop.models import Order, Product


@require_POST
def place_order(request):
    new = json.loads(request.body)
    try:
        with transaction.atomic():
            order = Order.objects.create(product_id=new["product"], quantity=new["quantity"], email=new["email"])
            task_id = sql.submit(connection, "order.confirm", {"order": order.id, "email": order.email})
            Product.objects.filter(name=new["product"]).update(stock=F("stock") - new["quantity"])
    except IntegrityError:
        return JsonResponse({"detail": "there is not enough of it"}, status=409)
    return JsonResponse({"task": str(task_id)}, status=201)
