import os

DEBUG = True
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",  # PGHOST, PGUSER and so on say where it is
        "NAME": os.environ["PGDATABASE"],
    }
}
