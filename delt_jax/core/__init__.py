"""Pure numerics: arrays in, arrays out; knows neither configs nor files."""
