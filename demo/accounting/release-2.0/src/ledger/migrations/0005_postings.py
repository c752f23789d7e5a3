"""Journal lines become postings, their two amounts one number of cents.

All in one transaction, so that no committed state of the database is without its balance check. The check of
release 1.0 names the table and the columns in its body; it would fail at the next entry if it were left.
"""

from django.db import migrations, models
from django.db.models import F, Value
from django.db.models.functions import Cast, Greatest

CREATE = """
CREATE FUNCTION ledger_check_balance() RETURNS trigger
LANGUAGE plpgsql
-- The table is found whatever the session's search_path is (a restore empties it).
SET search_path FROM CURRENT
AS $$
DECLARE
    touched bigint[] := CASE TG_OP
        WHEN 'INSERT' THEN ARRAY[NEW.entry_id]
        WHEN 'DELETE' THEN ARRAY[OLD.entry_id]
        ELSE ARRAY[NEW.entry_id, OLD.entry_id]
    END;
    wrong record;
BEGIN
    SELECT entry_id, sum(amount_cents) AS off INTO wrong
    FROM ledger_posting
    WHERE entry_id = ANY (touched)
    GROUP BY entry_id
    HAVING sum(amount_cents) <> 0
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'journal entry % is not balanced: it is off by % cents', wrong.entry_id, wrong.off
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_balance', TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER ledger_balance
    AFTER INSERT OR UPDATE OR DELETE ON ledger_posting
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_check_balance();
"""

DROP = """
DROP TRIGGER ledger_balance ON {table};
DROP FUNCTION ledger_check_balance();
"""

# The check of release 1.0 as its migration made it: going backwards puts it back.
CREATE_OLD = """
CREATE FUNCTION ledger_check_balance() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    touched bigint[] := CASE TG_OP
        WHEN 'INSERT' THEN ARRAY[NEW.entry_id]
        WHEN 'DELETE' THEN ARRAY[OLD.entry_id]
        ELSE ARRAY[NEW.entry_id, OLD.entry_id]
    END;
    wrong record;
BEGIN
    SELECT entry_id, sum(debit) AS debit, sum(credit) AS credit INTO wrong
    FROM ledger_journalline
    WHERE entry_id = ANY (touched)
    GROUP BY entry_id
    HAVING sum(debit) <> sum(credit)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'journal entry % is not balanced: debits %, credits %',
            wrong.entry_id, wrong.debit, wrong.credit
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_balance', TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER ledger_balance
    AFTER INSERT OR UPDATE OR DELETE ON ledger_journalline
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_check_balance();
"""


def to_cents(apps, schema_editor):
    """One statement for the whole table: the rows are computed where they are, none travels to this process."""
    postings = apps.get_model("ledger", "Posting").objects.using(schema_editor.connection.alias)
    postings.update(amount_cents=Cast((F("debit") - F("credit")) * Value(100), models.BigIntegerField()))


def to_debit_and_credit(apps, schema_editor):
    postings = apps.get_model("ledger", "Posting").objects.using(schema_editor.connection.alias)
    amount = models.DecimalField(max_digits=16, decimal_places=2)
    cents = F("amount_cents")
    postings.update(
        debit=Cast(Greatest(cents, Value(0)), amount) / Value(100),
        credit=Cast(Greatest(-cents, Value(0)), amount) / Value(100),
    )


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_tags")]

    operations = [
        migrations.RunSQL(DROP.format(table="ledger_journalline"), CREATE_OLD),
        migrations.RemoveConstraint("journalline", "ledger_line_one_side"),
        migrations.RenameModel("JournalLine", "Posting"),
        migrations.AddField("posting", "amount_cents", models.BigIntegerField(default=0), preserve_default=False),
        migrations.RunPython(to_cents, to_debit_and_credit),
        migrations.RemoveField("posting", "debit"),
        migrations.RemoveField("posting", "credit"),
        migrations.AddConstraint(
            "posting",
            models.CheckConstraint(condition=~models.Q(amount_cents=0), name="ledger_posting_not_zero"),
        ),
        migrations.RunSQL(CREATE, DROP.format(table="ledger_posting")),
    ]
