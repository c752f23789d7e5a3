--
-- PostgreSQL database cluster dump
--

\restrict fQcPsypQLW9n5KSuMGiPqAf7vQX6BTtqk6RWnnwDefiLL1YMqdPZ4TPBYpSGFc6

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

--
-- Roles
--

CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS;
CREATE ROLE shop_owner;
ALTER ROLE shop_owner WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;

--
-- User Configurations
--






\unrestrict fQcPsypQLW9n5KSuMGiPqAf7vQX6BTtqk6RWnnwDefiLL1YMqdPZ4TPBYpSGFc6

--
-- PostgreSQL database cluster dump complete
--

