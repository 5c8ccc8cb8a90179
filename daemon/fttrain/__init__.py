"""The processes of a job: keeper, preparation and trainers. The only room with torch."""
