"""One paced poll loop per connection, shared by every waiter in a process."""
