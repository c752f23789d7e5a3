--
-- PostgreSQL database cluster dump
--

\restrict 8WRQHyJXnAZviQh8x4EIDbPipZcly2WEaGtoeDvcFVhNPtUX2P4BMau9V62BtG6

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






\unrestrict 8WRQHyJXnAZviQh8x4EIDbPipZcly2WEaGtoeDvcFVhNPtUX2P4BMau9V62BtG6

--
-- PostgreSQL database cluster dump complete
--

