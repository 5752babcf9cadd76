"""The proxy: splits a route's traffic between versions and logs what was answered."""

from gateway.compiled import extend

extend(__path__)
