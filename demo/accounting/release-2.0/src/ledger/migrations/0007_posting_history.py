"""An index for an account's history, built while the table is written to.

That is not possible in a transaction. If it breaks off, an invalid index stays behind and the migration stays
unrecorded: drop the index before trying again.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("ledger", "0006_memo_prefix")]

    operations = [
        AddIndexConcurrently("posting", models.Index(fields=["account", "-entry"], name="ledger_posting_history"))
    ]
