from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("users", "0001_initial")]

    operations = [
        migrations.RenameField("userprofile", "display_name", "full_name"),
        migrations.AddField(
            "userprofile",
            "locale",
            models.CharField(default="en-GB", help_text="How dates and amounts are written.", max_length=10),
        ),
        migrations.RemoveField("userprofile", "phone"),
        # Fails if a department is longer; PostgreSQL does not cut values off.
        migrations.AlterField("userprofile", "department", models.CharField(blank=True, max_length=40)),
    ]
