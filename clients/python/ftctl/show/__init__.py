"""Records as text for people, a module for each screen. They print, and ask nobody."""
