"""What ours is measured against: the least that anybody must do, done as well as we can."""
