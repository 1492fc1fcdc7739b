"""What both faces of a pool stand on: parties, requests, delivery, and the loop that they live on."""
