"""How the tables came to be, one revision per change of `schema`. A revision is never edited
once it was released; it spells its tables out, for the schema of today is not that of its day."""
