"""Links that end a kind of mail for one person, and the pages behind them."""
