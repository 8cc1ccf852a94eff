"""Programs compiled for chips that are not there, and what the compiler says of them."""
