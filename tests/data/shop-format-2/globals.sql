--
-- PostgreSQL database cluster dump
--

\restrict yneN9rjsVH2uSsfk0vZ3IxRfWkCzjzDc9ARYkEdfStb9REm2g9ZDuxu4T6XYjyB

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






\unrestrict yneN9rjsVH2uSsfk0vZ3IxRfWkCzjzDc9ARYkEdfStb9REm2g9ZDuxu4T6XYjyB

--
-- PostgreSQL database cluster dump complete
--

