"""What a recorded run looked like: reading records, aligning clocks, writing and drawing timelines. No I/O with parties."""
