"""The command line: a thin layer. What its errors look like says `ctd.book.command_errors`."""

from ctd.cli import archives as archives
from ctd.cli import cache as cache
from ctd.cli import commands as commands
from ctd.cli import distill as distill
from ctd.cli import explorer as explorer
from ctd.cli import machine as machine
from ctd.cli import own_data as own_data
from ctd.cli import pdf as pdf
from ctd.cli import plan as plan
from ctd.cli import predict as predict
from ctd.cli import serve as serve
from ctd.cli import sweep as sweep
from ctd.cli.base import app as app
