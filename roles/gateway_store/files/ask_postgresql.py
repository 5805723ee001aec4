# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks each database with its password and with a wrong one. Passwords come by standard input; what goes out has none.

{"host": …, "port": …, "sslmode": …, "databases": [{"name": …, "user": …, "password": …}]} -> {"refused": {name: why}, "open": [name]}
"""

import json
import sys

import psycopg2

asked = json.load(sys.stdin)
options = {"host": asked["host"], "port": asked["port"], "sslmode": asked["sslmode"], "connect_timeout": 10}
answer = {"refused": {}, "open": []}
for database in asked["databases"]:
    login = {**options, "dbname": database["name"], "user": database["user"]}
    try:
        psycopg2.connect(password=database["password"], **login).close()
    except psycopg2.Error as error:
        answer["refused"][database["name"]] = str(error).strip()
    try:
        psycopg2.connect(password="wrong-" + database["password"], **login).close()
        answer["open"].append(database["name"])
    except psycopg2.Error:
        pass
print(json.dumps(answer))
