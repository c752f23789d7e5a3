"""What is committed after the launch, and the spool that it is kept in."""
