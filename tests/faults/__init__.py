"""Campaigns that inject faults for minutes; ``make faults`` and ``make soak`` run them."""
