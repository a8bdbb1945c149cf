"""A local page that shows what a trained model has learned."""
