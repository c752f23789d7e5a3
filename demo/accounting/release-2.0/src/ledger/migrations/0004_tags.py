import django.utils.timezone
from django.db import migrations, models

FIRST_TAGS = ("audit", "project", "recurring", "year end")


def make_first_tags(apps, schema_editor):
    Tag = apps.get_model("ledger", "Tag")
    Tag.objects.using(schema_editor.connection.alias).bulk_create(Tag(name=name) for name in FIRST_TAGS)


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_entry_fields")]

    operations = [
        migrations.CreateModel(
            name="Tag",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=40, unique=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={"ordering": ("name",)},
        ),
        migrations.AddField(
            "journalentry", "tags", models.ManyToManyField(blank=True, related_name="entries", to="ledger.tag")
        ),
        # Backwards there is nothing to do: the table goes, and the tags with it.
        migrations.RunPython(make_first_tags, migrations.RunPython.noop),
    ]
