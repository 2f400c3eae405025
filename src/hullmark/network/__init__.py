"""What a network is: operations, their graph, and the front ends that make one."""
