"""Debits equal credits, held by the database.

A deferred constraint trigger: the lines of an entry are written one after the other, so the sums are compared when
the transaction commits. Nobody gets past it: not the admin, not a shell, not another program.
"""

from django.db import migrations

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

DROP = """
DROP TRIGGER ledger_balance ON ledger_journalline;
DROP FUNCTION ledger_check_balance();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]

    operations = [migrations.RunSQL(CREATE, DROP)]
