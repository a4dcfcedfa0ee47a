"""What CINP's embeddings are compared with: methods on networks, on T1s, on both, and on neither."""
