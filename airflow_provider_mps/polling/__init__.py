"""One paced poll loop per connection and region, shared by all waiters in an event loop."""
