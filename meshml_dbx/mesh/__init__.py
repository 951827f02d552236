"""The mesh as declared, in App Mesh's words: frozen values that every room understands."""
