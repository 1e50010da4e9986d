"""Where files lie: local disks and object stores."""
