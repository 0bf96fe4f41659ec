if __name__ == "__main__":  # worker processes import this file too, before they set what JAX reads when it is imported
    from bench.cli import main

    raise SystemExit(main())
