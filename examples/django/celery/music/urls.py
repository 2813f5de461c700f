"""The addresses of the site."""

from django.urls import path
from songs import views

urlpatterns = [
    path("", views.page),
    path("songs", views.submit),
    path("songs/<str:token>/again", views.again),
    path("songs/<str:token>/revoke", views.revoke),
    path("changes", views.changes),
]
