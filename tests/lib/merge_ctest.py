#!/usr/bin/env python3
"""Turns `ctest --show-only=json-v1` of one build into lines of a CTestTestfile.cmake.

Usage: ctest --show-only=json-v1 | merge_ctest.py NAME >> CTestTestfile.cmake
"""
import json
import sys


def quote(text):
    return "[==[" + text + "]==]"


def main():
    suite = sys.argv[1]
    for test in json.load(sys.stdin)["tests"]:
        name = f"{suite}.{test['name']}"
        print(f"add_test({quote(name)} {' '.join(quote(a) for a in test['command'])})")
        wanted = {"ENVIRONMENT", "TIMEOUT", "RUN_SERIAL", "WORKING_DIRECTORY", "LABELS"}
        for prop in test.get("properties", []):
            if prop["name"] not in wanted:
                continue
            value = prop["value"]
            if isinstance(value, list):
                value = ";".join(value)
            if isinstance(value, bool):
                value = "TRUE" if value else "FALSE"
            print(f"set_tests_properties({quote(name)} PROPERTIES {prop['name']} {quote(str(value))})")


if __name__ == "__main__":
    main()
