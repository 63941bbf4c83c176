import csv
from importlib.metadata import distributions

with open("packages.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["name", "description", "classifiers"])
    for package in distributions():
        about = package.metadata
        labels = [label for label in about.get_all("Classifier", []) if not label.startswith("Programming")]
        table.writerow([about["Name"], about.get_payload() or about["Summary"], ";".join(labels)])
