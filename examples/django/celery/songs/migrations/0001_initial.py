from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Song",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("token", models.CharField(max_length=64, unique=True)),
                ("title", models.CharField(max_length=200)),
                ("tempo", models.FloatField(null=True)),
                ("loudness", models.FloatField(null=True)),
                ("group", models.IntegerField(null=True)),
            ],
        ),
    ]
