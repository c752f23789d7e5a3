-- Run this as a superuser after the archive was restored.
ALTER DATABASE shop SET work_mem TO '9MB';
