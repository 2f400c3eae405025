"""Every named bounding method, from intervals to hulls of groups with whole layers."""
