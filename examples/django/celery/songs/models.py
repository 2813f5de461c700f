"""The songs that users have sent."""

from django.db import models


class Song(models.Model):
    """One song. Its token is the id of its task too."""

    token = models.CharField(max_length=64, unique=True)
    title = models.CharField(max_length=200)
    tempo = models.FloatField(null=True)
    loudness = models.FloatField(null=True)
    group = models.IntegerField(null=True)
