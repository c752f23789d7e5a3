"""An index for the search by the beginning of a memo, in the form in which Django asks (`istartswith`)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ledger", "0005_postings")]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX ledger_entry_memo_prefix ON ledger_journalentry (upper(memo::text) text_pattern_ops)",
            "DROP INDEX ledger_entry_memo_prefix",
        )
    ]
