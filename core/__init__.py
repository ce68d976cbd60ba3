"""The foundation: errors, records, files, progress; imports no other room."""
