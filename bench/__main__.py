if __name__ == "__main__":  # worker processes import this file too, before they set what JAX reads when it is imported
    try:
        from bench import cli

        cli.end_like_ctrl_c()
        code = cli.main()
    except KeyboardInterrupt:  # before anything was begun
        code = 130
    raise SystemExit(code)
