"""What both schemas are like, and how an old row is made of a new one."""
