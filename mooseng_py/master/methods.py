"""The numbers of the calls that Python makes to a native master. Source: native/wire/src/method.rs."""

NAME = 10
RENEW = 11
VIEW = 30
FILE_INFO = 31
ADMIN = 32
INTENTS = 33
TRANSFER = 34
