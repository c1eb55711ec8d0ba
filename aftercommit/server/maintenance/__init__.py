"""What keeps the house: the topology, tasks that fall due, that were lost with their worker, or whose message was
lost; keys whose time is over. Any number of replicas."""
