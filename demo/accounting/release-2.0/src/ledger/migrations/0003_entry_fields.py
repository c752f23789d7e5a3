from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_balance")]

    operations = [
        migrations.AddField(
            "journalentry",
            "currency",
            models.CharField(
                choices=[("EUR", "Euro"), ("GBP", "Pound sterling"), ("USD", "US dollar")], default="EUR", max_length=3
            ),
        ),
        migrations.RenameField("journalentry", "date", "booked_on"),
        migrations.AlterModelOptions(
            "journalentry", {"ordering": ("-booked_on", "-id"), "verbose_name_plural": "journal entries"}
        ),
        migrations.RemoveField("journalentry", "legacy_number"),
        # Fails if a memo is longer.
        migrations.AlterField("journalentry", "memo", models.CharField(max_length=140)),
        # Rounds silently if a budget has more than two decimals.
        migrations.AlterField(
            "account",
            "budget",
            models.DecimalField(decimal_places=2, default=0, help_text="For one year.", max_digits=14),
        ),
    ]
