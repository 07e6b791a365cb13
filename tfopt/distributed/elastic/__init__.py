"""Training that goes on when ranks are lost or added."""
