"""What every wing may use: errors, formats, signals, memory, versions. It knows no study."""
