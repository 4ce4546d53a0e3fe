"""What content is and where its bytes are kept: blocking code, no HTTP, no repositories."""
